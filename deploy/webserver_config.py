"""How people log in: with accounts of Airflow's own database. For LDAP, OAuth and others see Airflow's FAB provider."""

from flask_appbuilder.const import AUTH_DB

AUTH_TYPE = AUTH_DB
WTF_CSRF_ENABLED = True
