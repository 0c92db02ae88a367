"""The playground: one page that tries each skill on a picture."""
