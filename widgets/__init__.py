"""The explorers of the course: one module per lesson, and in `common` the kit they share."""
