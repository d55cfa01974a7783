"""Who asks: agents prove who they are, and become a subject."""
