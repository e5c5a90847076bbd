"""Chat models: a local model folder, or an endpoint with the OpenAI API, as target, judge or critic."""
