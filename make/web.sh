#!/usr/bin/env bash
# Brings what browsers are served: htmx, uPlot and the OHIF viewer, from npm, checked against their digests.
# Arguments: OHIF_VERSION OHIF_INTEGRITY
set -euo pipefail

version=$1 integrity=$2
echo "Fetching the web parts (htmx, uPlot, OHIF $version)"
npm ci --ignore-scripts --silent
rm -rf src/overread/portal/vendor build/npm
mkdir -p src/overread/portal/vendor build/npm

# The tarball alone: @ohif/app's dependencies are compiled into its dist/.
npm pack --silent --pack-destination build/npm "@ohif/app@$version" >/dev/null
tarball=$(ls build/npm/*.tgz)
found=sha512-$(openssl dgst -sha512 -binary "$tarball" | base64 -w0)
if [ "$found" != "$integrity" ]; then
    echo "OHIF's tarball has the digest $found, expected $integrity" >&2
    exit 1
fi
# Without source maps, the speech and segmentation models' runtime, and the microscopy viewer.
tar -xzf "$tarball" -C build/npm --exclude='*.map' --exclude='package/dist/ort' \
    --exclude='package/dist/dicom-microscopy-viewer' package/dist
mv build/npm/package/dist src/overread/portal/vendor/ohif
cp node_modules/htmx.org/dist/htmx.min.js node_modules/uplot/dist/uPlot.esm.js node_modules/uplot/dist/uPlot.min.css \
    src/overread/portal/vendor/
rm -rf build/npm
