"""Thin clients for the calls to AWS that Daybreak makes, and the translation of their errors.

boto3 comes with ``daybreak[aws]`` and is imported only where a session is opened; emulators are reached
through boto3's own ``AWS_ENDPOINT_URL``."""
