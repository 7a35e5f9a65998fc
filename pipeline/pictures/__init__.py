"""Pictures of concepts on images: colours, composites, text, PNG."""
