# SPDX-License-Identifier: Apache-2.0
"""One trainer for the control, the student and the trial."""
