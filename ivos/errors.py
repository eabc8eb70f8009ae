"""The one kind of error that is the user's to mend."""


class UserError(ValueError):
    """Bad input or settings: the message names the file or the option and the mend.

    The command-line programs print it as it is, without a traceback; any other error is a defect of ivos.
    """
