"""Reading WARC and taking the text out of pages."""
