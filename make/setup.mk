# The set-up: each part is done once, and again when what it depends on changes.

# Programs that the tests and the demo use, and the Debian/Ubuntu packages that bring them.
SYSTEM_PROGRAMS := bwrap:bubblewrap storescu:dcmtk dciodvfy:dicom3tools chromium:chromium Orthanc:orthanc \
    podman:podman runc:runc busybox:busybox-static dcm2niix:dcm2niix slapd:slapd \
    /usr/share/orthanc/plugins/libOrthancDicomWeb.so:orthanc-dicomweb
OHIF_VERSION := 3.13.2
OHIF_INTEGRITY := sha512-WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA==

.PHONY: setup
setup: $(VENV)/.done build/system.done build/web.done

$(VENV)/.done: constraints.txt pyproject.toml
	echo "Setting up the Python environment in $(VENV) (about 30 seconds)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

build/system.done: make/setup.mk make/system.sh
	mkdir -p build
	bash make/system.sh $(SYSTEM_PROGRAMS)
	touch $@

build/web.done: make/setup.mk make/web.sh package-lock.json
	mkdir -p build
	bash make/web.sh $(OHIF_VERSION) $(OHIF_INTEGRITY)
	touch $@
