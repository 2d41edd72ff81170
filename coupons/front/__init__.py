"""The way of an application: answered in the event loop of a web worker. All else is Django's."""
