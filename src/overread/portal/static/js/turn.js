// Surfaces that are turned by dragging: WebGL, one light beside the eye, nothing else. The patient's head is
// up and the patient looks at the reader, as in the images.
const canvas = document.querySelector(".turn canvas");
const status = document.querySelector(".turn [role=status]");

const VERTEX = `attribute vec3 corner, normal; uniform mat3 turned; uniform vec3 middle; uniform vec2 scale;
varying vec3 facing; void main() { vec3 at = turned * (corner - middle); facing = turned * normal;
gl_Position = vec4(at.xy * scale, at.z * scale.x * -0.2, 1.0); }`;
const FRAGMENT = `precision mediump float; varying vec3 facing; uniform vec3 colour; void main() {
float light = abs(normalize(facing).z); gl_FragColor = vec4(colour * (0.25 + 0.75 * light), 1.0); }`;

function program(gl) {
  const made = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(made));
  return made;
}

// A normal of each corner: that of the triangles around it, the larger the more.
function normalsOf(corners, triangles) {
  const normals = new Float32Array(corners.length);
  const edge = (from, to, axis) => corners[3 * to + axis] - corners[3 * from + axis];
  for (let n = 0; n < triangles.length; n += 3) {
    const [a, b, c] = triangles.subarray(n, n + 3);
    for (let axis = 0; axis < 3; axis++) {
      const [one, two] = [(axis + 1) % 3, (axis + 2) % 3];
      const area = edge(a, b, one) * edge(a, c, two) - edge(a, b, two) * edge(a, c, one);
      for (const corner of [a, b, c]) normals[3 * corner + axis] += area;
    }
  }
  return normals;
}

async function fetchSurface(gl, box) {
  const answer = await fetch(box.dataset.surface);
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  const data = await answer.arrayBuffer();
  const [corners, triangles] = new Uint32Array(data, 0, 2);
  const places = new Float32Array(data, 8, 3 * corners);
  const faces = new Uint32Array(data, 8 + 12 * corners, 3 * triangles);
  const upload = (kind, values) => {
    const buffer = gl.createBuffer();
    gl.bindBuffer(kind, buffer);
    gl.bufferData(kind, values, gl.STATIC_DRAW);
    return buffer;
  };
  return {
    box, places, count: faces.length,
    corner: upload(gl.ARRAY_BUFFER, places),
    normal: upload(gl.ARRAY_BUFFER, normalsOf(places, faces)),
    faces: upload(gl.ELEMENT_ARRAY_BUFFER, faces),
    colour: box.dataset.colour.split(",").map((shade) => shade / 255),
  };
}

function extent(surfaces) {
  const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
  for (const { places } of surfaces)
    for (let n = 0; n < places.length; n++) {
      low[n % 3] = Math.min(low[n % 3], places[n]);
      high[n % 3] = Math.max(high[n % 3], places[n]);
    }
  return { middle: low.map((one, axis) => (one + high[axis]) / 2), radius: Math.hypot(...low.map((one, axis) => high[axis] - one)) / 2 || 1 };
}

async function begin() {
  const gl = canvas.getContext("webgl2", { antialias: true, preserveDrawingBuffer: true });
  if (!gl) return (status.textContent = "This browser draws nothing in three dimensions (no WebGL 2).");
  const shader = program(gl);
  gl.useProgram(shader);
  gl.enable(gl.DEPTH_TEST);
  const uniform = (name) => gl.getUniformLocation(shader, name);
  const surfaces = await Promise.all([...document.querySelectorAll("[data-surface]")].map((box) => fetchSurface(gl, box)));
  const { middle, radius } = extent(surfaces);
  let [round, over, near] = [0.5, 0.25, 1];
  const draw = () => {
    const size = Math.min(devicePixelRatio, 2);
    canvas.width = canvas.clientWidth * size;
    canvas.height = canvas.clientHeight * size;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const [c, s, u, v] = [Math.cos(round), Math.sin(round), Math.cos(over), Math.sin(over)];
    // LPS: x to the patient's left, y to the back, z to the head. Seen from the front, z is up.
    gl.uniformMatrix3fv(uniform("turned"), false, [c, -s * v, -s * u, s, c * v, c * u, 0, u, -v].map((one, n) => (n % 3 === 2 ? -one : one)));
    const least = Math.min(canvas.width, canvas.height);
    gl.uniform2f(uniform("scale"), (0.9 * near * least) / canvas.width / radius, (0.9 * near * least) / canvas.height / radius);
    gl.uniform3fv(uniform("middle"), middle);
    for (const one of surfaces.filter(({ box }) => box.checked)) {
      for (const name of ["corner", "normal"]) {
        const place = gl.getAttribLocation(shader, name);
        gl.bindBuffer(gl.ARRAY_BUFFER, one[name]);
        gl.enableVertexAttribArray(place);
        gl.vertexAttribPointer(place, 3, gl.FLOAT, false, 0, 0);
      }
      gl.uniform3fv(uniform("colour"), one.colour);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, one.faces);
      gl.drawElements(gl.TRIANGLES, one.count, gl.UNSIGNED_INT, 0);
    }
  };
  const turnBy = (x, y) => {
    round += x;
    over = Math.max(-Math.PI / 2, Math.min(Math.PI / 2, over + y));
    draw();
  };
  canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("pointermove", (event) => event.buttons && turnBy(event.movementX / 150, event.movementY / 150));
  const closer = (by) => { near = Math.max(0.3, Math.min(8, near * by)); draw(); };
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); closer(event.deltaY < 0 ? 1.1 : 1 / 1.1); });
  const keys = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
  canvas.addEventListener("keydown", (event) => {
    if (keys[event.key]) turnBy(...keys[event.key]);
    else if (event.key === "+") closer(1.1);
    else if (event.key === "-") closer(1 / 1.1);
    else return;
    event.preventDefault();
  });
  for (const { box } of surfaces) box.addEventListener("change", draw);
  new ResizeObserver(draw).observe(canvas);
  draw();
  status.textContent = "Drag to turn, or use the arrow keys; the wheel comes nearer.";
}

if (canvas) begin().catch((error) => (status.textContent = `The surfaces cannot be shown: ${error.message}.`));
