"""Who would talk to whom: what a cluster's manifests say about it, drawn, and tried in a running lab."""
