"""The interactive viewer: drag a camera through a scene in the browser, and the model draws what it sees."""
