"""How all pages show a time: to the second, since operators ask which user came first."""

DATETIME_FORMAT = "Y-m-d H:i:s"
