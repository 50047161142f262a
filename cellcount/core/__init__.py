"""The nouns that every room shares: images, detections, boxes, counted cells, tiles. numpy only."""
