"""The Detectron2 engine; imported only where Detectron2 is installed."""
