"""What runs the platform elsewhere: SQL migrations, and later compose files, images, charts and dashboards."""
