"""Any image a user has -> an `EncodedImage` ready to send. The one room that uses Pillow, in `prepare`."""
