"""From a merged commit to a running service and back: versions, images, desired state, lineage."""
