"""The MCP server behind `moondream_async.mcp`."""
