"""Where a person's command works: the settings with the running stack's addresses, and drivers that keep quiet."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streams.settings import Settings


def settings_here() -> Settings:
    """The settings of the environment and the running stack. Raises BadSetting."""
    from devstack.stack import running_settings
    from streams.settings import load_settings

    quiet_drivers()
    return running_settings(load_settings())


def quiet_drivers() -> None:
    """What a driver has to say comes as one line of an error; its own retries are nobody's concern here."""
    for name in ("aiokafka", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
