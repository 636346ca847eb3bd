// A viewer in its own tab covers itself once another case is open on a page of this browser, so that nobody
// reads one patient's images beside another's name. Case pages say which case they show, here and in case.js.

const CHANNEL = "overread-case";

// A case page says so when it is opened and whenever it is looked at again, and answers who asks.
export function announce(caseId) {
  const channel = new BroadcastChannel(CHANNEL);
  let seen = 0;
  const say = () => channel.postMessage({ caseId, seen });
  const look = () => {
    if (document.visibilityState !== "visible") return;
    seen = Date.now();
    say();
  };
  channel.onmessage = ({ data }) => data.asks && seen && say();
  window.addEventListener("focus", look);
  document.addEventListener("visibilitychange", look);
  look();
}

// The viewer's side. In a case page's own frame there is nothing to cover: that page says who it is.
export function watch(caseId) {
  if (window.top !== window) return;
  const channel = new BroadcastChannel(CHANNEL);
  let current = { caseId, seen: 0 };
  channel.onmessage = ({ data }) => {
    if (!data.caseId || data.seen < current.seen) return;
    current = data;
    if (current.caseId === caseId) uncover();
    else cover();
  };
  channel.postMessage({ asks: true });
}

const ID = "overread-cover";

function uncover() {
  document.getElementById(ID)?.remove();
}

function cover() {
  if (document.getElementById(ID)) return;
  const plate = document.createElement("div");
  plate.id = ID;
  plate.setAttribute("role", "alertdialog");
  plate.setAttribute("aria-labelledby", `${ID}-title`);
  plate.style.cssText =
    "position:fixed;inset:0;z-index:2147483000;background:#05081c;color:#e8eefc;display:grid;" +
    "place-content:center;justify-items:center;gap:14px;text-align:center;font:16px/1.5 system-ui,sans-serif";
  const title = document.createElement("strong");
  title.id = `${ID}-title`;
  title.style.fontSize = "22px";
  title.textContent = "This is not the case that is open now";
  const who = document.createElement("span");
  who.textContent = whose();
  const why = document.createElement("span");
  why.textContent = "Another case has been opened on a page of this browser. The images here are covered.";
  const show = document.createElement("button");
  show.type = "button";
  show.style.cssText =
    "font:inherit;padding:10px 22px;border-radius:6px;border:1px solid #5acce6;background:none;color:#5acce6;cursor:pointer";
  show.textContent = "Show these images anyway";
  show.addEventListener("click", uncover);
  plate.append(title, who, why, show);
  document.body.append(plate);
  show.focus();
}

// Whose images these are, as OHIF has read it.
function whose() {
  try {
    const [first] = window.services.displaySetService.getActiveDisplaySets();
    const { PatientName, PatientID, StudyDate } = first.instances?.[0] ?? first.instance;
    const name = PatientName?.Alphabetic ?? PatientName?.[0]?.Alphabetic ?? PatientName ?? "";
    const told = [String(name).replaceAll("^", " ").trim(), PatientID, StudyDate].filter(Boolean);
    return told.length ? `These images: ${told.join(" · ")}` : "";
  } catch {
    return ""; // not read yet
  }
}
