"""Convert any image a user passes to an `EncodedImage` ready to send. Only `prepare` and below import Pillow."""
