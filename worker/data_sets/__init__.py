"""Store which data set owns an enrollment, and which others name it, too."""
