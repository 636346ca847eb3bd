# The heavy peers of `make test-peers`: PyTorch and MONAI beside what the tests have anyway, and a
# Triton server in an environment of its own, as it wants an older NumPy.

PEERS := build/peers/bin

build/peers.done: make/peers.mk make/peers.sh $(VENV)/.done
	echo "Setting up the heavy peers in build/ (about a minute, 1.4 GB)"
	bash make/peers.sh $(BIN)/python
	touch $@
