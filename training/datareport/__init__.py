"""The data report: figures of labelled files, and one HTML page that draws them."""
