# Tasks of a developer: `just` lists them. Each is one or two plain commands, so that nobody needs `just`.

bin := ".venv-test/bin"

# List the tasks
default:
    @just --list

# Make the virtual environment with everything that tests, lint and types need
setup:
    python3 -m venv .venv-test
    {{bin}}/pip install -q -e ".[dev,examples,lint,docs]"

# Test the pure rooms: the inner loop
unit *args:
    {{bin}}/pytest -n auto tests/unit {{args}}

# Test without processes and kills: unit and integration
test *args:
    {{bin}}/pytest -n auto tests/unit tests/integration {{args}}

# Run all tests, as CI does
test-all *args:
    {{bin}}/pytest -n auto {{args}}

# Test the pages in chromium, and with the clients of others for Node
browser *args:
    npm install --prefix tests/support/node --no-audit --no-fund --no-package-lock
    {{bin}}/pytest tests/browser {{args}}

# Test on Ray, Dask and datasets
engines *args:
    {{bin}}/pip install -q -e ".[engines]"
    {{bin}}/pytest tests/engines {{args}}

# Test the examples for Celery and Flask, and the notebook
examples *args:
    {{bin}}/pip install -q -e ".[examples]"
    {{bin}}/pytest tests/examples {{args}}

# Check style, imports and words
lint:
    {{bin}}/ruff check .
    {{bin}}/ruff format --check .
    {{bin}}/lint-imports
    {{bin}}/python tools/generate_sync.py --check
    {{bin}}/python tools/check_words.py

# Check types with mypy and pyright, for the oldest and the newest Python; also of the code in README and docs
types:
    {{bin}}/mypy
    {{bin}}/mypy --python-version 3.14
    {{bin}}/pyright --pythonpath {{bin}}/python
    {{bin}}/python tools/check_snippets.py

# Update the code, outputs and pictures on the pages of docs/recipes, and the notebook
recipes:
    {{bin}}/pip install -q -e ".[examples]"
    {{bin}}/python tools/recipe_pages.py --write
    {{bin}}/python tools/tour.py --write

# Build the site into site/, offline, and check its links
docs:
    {{bin}}/mkdocs build --strict
    {{bin}}/python tools/check_links.py site

# Run the code in the README, the site, the recipes and the examples
docs-check *args:
    {{bin}}/pytest -n 2 tests/system/test_docs.py tests/site examples/test_my_code.py {{args}}

# Make the pictures of the site; look at them
pictures:
    {{bin}}/python tools/gallery.py

# Generate the sync clients from the async ones
sync:
    {{bin}}/python tools/generate_sync.py

# Compare with other clients: `just bench calls streams --quick`
bench *args:
    {{bin}}/pip install -q -e ".[benchmarks]"
    {{bin}}/python -m benchmarks {{args}}
