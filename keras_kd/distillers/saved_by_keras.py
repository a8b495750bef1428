# SPDX-License-Identifier: Apache-2.0
"""SavedByKeras: what a Distiller's .keras file holds; never the teacher."""

from __future__ import annotations

import keras


class SavedByKeras:
    """Gives a distiller the configuration that Keras saves and loads."""

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "dtype": serialize(self.dtype_policy),
            "student": serialize(self.student),
            "alpha": self.alpha,
            "outputs": self._outputs,
            "distillation_losses": serialize(self.distillation_losses),
            "projectors": serialize(dict(self.projectors)),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = keras.saving.deserialize_keras_object(
            dict(config), custom_objects=custom_objects
        )
        projectors = config.pop("projectors", {})
        distiller = cls(teacher=None, **config)
        distiller.projectors = projectors
        distiller.built = distiller.student.built
        return distiller

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)
