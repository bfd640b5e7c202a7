"""Long hauls: an hour of training whose memory and speed stay flat, and a study whose workers are killed."""
