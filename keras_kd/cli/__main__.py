# SPDX-License-Identifier: Apache-2.0
"""`python -m keras_kd.cli`, where `keras-kd` is not on the PATH."""

import sys

from keras_kd.cli.main import main

sys.argv[0] = "keras-kd"  # what a report says that it was made by
raise SystemExit(main())
