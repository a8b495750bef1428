# SPDX-License-Identifier: Apache-2.0
"""Text in NumPy arrays, which Keras' own `fit` refuses."""

from __future__ import annotations

import functools
import inspect

import keras

from keras_kd.data.reading import strings_for_keras


def _takes_text(method):
    """Returns a method of `keras.Model` for arrays of strings, too."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def taking_text(self, *args, **kwargs):
        given = signature.bind(self, *args, **kwargs)
        for name in {"x", "validation_data"} & set(given.arguments):
            given.arguments[name] = strings_for_keras(given.arguments[name])
        inherited = getattr(super(TextInputs, self), method.__name__)
        return inherited(*given.args[1:], **given.kwargs)

    return taking_text


class TextInputs:
    """Gives a distiller methods that take arrays of strings."""

    fit = _takes_text(keras.Model.fit)
    evaluate = _takes_text(keras.Model.evaluate)
    predict = _takes_text(keras.Model.predict)
