"""What a trained model is worth: continuation bits per byte, the same measure for every family and tokenizer."""
