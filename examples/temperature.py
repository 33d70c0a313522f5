"""A tool of one's own, for --import."""

from llm_jax.agent import tools


@tools.tool(
  'The temperature in a city, in degrees Celsius.',
  {
    'type': 'object',
    'properties': {'city': {'type': 'string'}},
    'required': ['city'],
  },
)
def temperature(city):
  return f'{len(city)} degrees in {city}'
