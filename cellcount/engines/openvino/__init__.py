"""Engine for CPUs on OpenVINO: the same weight files, without torch for the packaged ones."""
