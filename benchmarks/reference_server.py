"""The WSGI application of the references. Django is set up before it imports their views and tables."""

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
