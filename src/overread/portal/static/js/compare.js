// Two versions over the images: one slice at a time, by the slider, the wheel or the arrow keys.
const figure = document.querySelector(".slices");
if (figure) {
  const slices = JSON.parse(figure.querySelector("script").textContent);
  const range = figure.querySelector("input");
  const image = figure.querySelector("img");
  const output = figure.querySelector("output");
  const show = () => {
    const { image: source, number, a, b } = slices[range.value];
    if (image.getAttribute("src") !== source) image.src = source;
    figure.querySelector("path.one").setAttribute("d", a);
    figure.querySelector("path.other").setAttribute("d", b);
    output.textContent = `${number} (${Number(range.value) + 1} of ${slices.length} with something drawn)`;
  };
  range.addEventListener("input", show);
  figure.querySelector(".stage").addEventListener("wheel", (event) => {
    event.preventDefault();
    range.value = Number(range.value) + Math.sign(event.deltaY);
    show();
  });
  show();
}
