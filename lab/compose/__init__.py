"""The lab's cloud as machines under Docker Compose, beside the Airflow of docker-compose.yaml."""
