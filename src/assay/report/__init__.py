"""Tables, charts, pictures and HTML, made from run folders and descriptions alone."""
