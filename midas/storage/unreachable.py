"""Why PostgreSQL could not be used, as a sentence for whoever starts Midas."""

from sqlalchemy.exc import DBAPIError


def unreachable(error: BaseException) -> str:
    """Why PostgreSQL could not be used, and what to do. Says nothing of the URL's password."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    known = {"28P01": "user or password", "28000": "user", "3D000": "database's name"}
    wrong = known.get(getattr(cause, "sqlstate", None) or "")
    if wrong:
        return f"PostgreSQL refuses the {wrong} in DATABASE_URL. Correct it."
    if isinstance(cause, TypeError | ValueError):
        return "DATABASE_URL has an option that asyncpg does not know, or a wrong value. Remove it."
    return (
        f"PostgreSQL cannot be reached at the address in DATABASE_URL ({type(cause).__name__})."
        " Start it, or correct the host and port."
    )
