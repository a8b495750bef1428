# SPDX-License-Identifier: Apache-2.0
"""`python -m keras_kd.cli`, where `keras-kd` is not on the PATH."""

from keras_kd.cli.main import main

raise SystemExit(main())
