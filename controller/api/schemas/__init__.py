"""Kubernetes' published schemas, cut to what is served here (see ``make.py`` and ``NOTICE``)."""
