"""Makes the packaged classifier of cell types: from public data sets to a weight file."""
