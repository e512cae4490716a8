"""
RabbitMQ's management API for Airflow: a hook that reads queues, and a sensor that waits until they are empty.

Modules, lower ones never import higher ones::

    sensors.queues    QueuesDrainedSensor
    triggers.queues   QueuesDrainedTrigger
    hooks.management  RabbitMQManagementHook: what is read, and when it can be relied on
    watch             the rule: from readings to "drained"
    api               one request and its bounded answer
    connection        where the server is and how it is proven, from an Airflow connection
    records           what the server shows
    exceptions        what may pass by itself and what won't
    provider          what Airflow is told about the package; imports nothing
"""

__version__ = "0.1.0"
