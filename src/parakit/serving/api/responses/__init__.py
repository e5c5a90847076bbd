"""`/v1/responses`: the Responses form of OpenAI and of the Open Responses specification."""
