"""Every error Darkroom raises on purpose.

    DarkroomError                     code, one line for a person
    ├── BadSetting                    a setting is wrong: exit 2, names the setting
    ├── WrongUse                      a command was called wrongly: exit 2
    ├── SetupFailed                   the machine lacks something (disk, port, Java): says what to do
    ├── Unavailable                   Kafka, Postgres, Redis, blob store or provider is away: try again
    ├── Refused, GenerationFailed     what producers are told of their requests (models/refusals.py)
    ├── Fenced                        another worker owns the partition now: drop state, load again
    ├── OutputTooLarge                an event does not fit its topic: its cause goes to the dead letters
    ├── TopicMadeAnew                 the topic ends before the recorded position: a person must decide
    └── ProviderError
        ├── ProviderBusy              429 or 503, nothing was accepted: wait, try again
        ├── ProviderRefused           4xx: final
        └── ProviderSilent            the answer was lost: the run may or may not exist

`code` is stable: metrics, logs and problem documents use it. Drivers' exceptions are mapped to
these in adapters/ and never travel further.
"""


class DarkroomError(Exception):
    """Base of all. `str(error)` is one line that says what to do."""

    code = "darkroom_error"


class BadSetting(DarkroomError):
    """A setting has a value that cannot work; `setting` is its environment variable."""

    code = "bad_setting"

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")
        self.setting = setting


class WrongUse(DarkroomError):
    """A command was called with arguments that make no sense."""

    code = "wrong_use"


class SetupFailed(DarkroomError):
    """The machine lacks something that the line names."""

    code = "setup_failed"


class Unavailable(DarkroomError):
    """A server is away or too slow; nothing was done, or it is safe to do again."""

    code = "unavailable"

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(f"{what} is not available: {problem}")
        self.what = what


class Fenced(DarkroomError):
    """Another worker has moved this partition's progress since we read it."""

    code = "fenced"


class OutputTooLarge(DarkroomError):
    """An event would be larger than its topic takes."""

    code = "output_too_large"


class TopicMadeAnew(DarkroomError):
    """A topic's records are not those that Postgres says were handled.

    `next_offset` is the one that follows what was handled, when the topic's end was held against it.
    """

    code = "topic_made_anew"

    def __init__(self, problem: str, next_offset: int | None = None) -> None:
        super().__init__(problem)
        self.next_offset = next_offset


class ProviderError(DarkroomError):
    """Base of what can go wrong at the provider."""

    code = "provider_error"


class ProviderBusy(ProviderError):
    """The provider refused for now; nothing was started. `retry_after_s` is its wish, if it gave one."""

    code = "provider_busy"

    def __init__(self, problem: str, retry_after_s: float | None = None) -> None:
        super().__init__(problem)
        self.retry_after_s = retry_after_s


class ProviderRefused(ProviderError):
    """The provider refused for good."""

    code = "provider_refused"


class ProviderSilent(ProviderError):
    """No answer came back, or one that says nothing: the work may or may not have been started.

    `is_over` says that the provider has done with the call, so that its list can be asked soon.
    """

    code = "provider_silent"

    def __init__(self, problem: str, *, is_over: bool = False) -> None:
        super().__init__(problem)
        self.is_over = is_over
