"""A module that cannot be imported where the package it wants is missing."""

import a_package_that_nobody_has  # noqa: F401
