"""What the tools of Flowcept 1.0.3's MCP server answer, through its own client: ask_agent.py QUESTIONS, a JSON list of [tool, arguments]"""

import json
import sys

from flowcept.agents.mcp.mcp_client import run_tool

print(json.dumps([json.loads(run_tool(tool, arguments)[0]) for tool, arguments in json.loads(sys.argv[1])]))
