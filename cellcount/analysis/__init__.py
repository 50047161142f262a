"""Analysis of images: the pipeline, the job around it, and everything a run writes."""
