"""Analysis of images: the pipeline, the job around it, and all outputs of a run."""
