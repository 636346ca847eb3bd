#!/usr/bin/env bash
# Sets up build/peers and build/triton. Argument: the Python of the project's own environment.
set -euo pipefail

python=$1
quietly=(install --quiet --disable-pip-version-check)
site_packages='import sysconfig; print(sysconfig.get_path("purelib"))'

rm -rf build/peers build/triton
"$python" -m venv build/peers
# All that the project's own environment has, the editable project too, is there as well.
echo "import site; site.addsitedir('$("$python" -c "$site_packages")')" \
    >"$(build/peers/bin/python -c "$site_packages")/project.pth"
build/peers/bin/python -m pip "${quietly[@]}" \
    torch==2.13.0 monai==1.6.0 onnx==1.23.2 \
    tritonclient==2.73.0 grpcio==1.85.3 geventhttpclient==2.6.1 python-rapidjson==1.25

"$python" -m venv build/triton
build/triton/bin/python -m pip "${quietly[@]}" nvidia-pytriton==0.7.0 onnxruntime==1.32.0
