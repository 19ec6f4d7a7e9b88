"""Interactive viewer: move a camera through a scene in the browser while the model renders its view."""
