// The microphone as a WAV file: samples as they are, without a codec between voice and encoder.

// Runs in the audio thread, from its own text: hands on a tenth of a second at a time.
function listen() {
  class Recorder extends AudioWorkletProcessor {
    constructor() {
      super();
      this.block = new Float32Array(Math.round(sampleRate / 10));
      this.filled = 0;
    }

    process([[channel]]) {
      for (const sample of channel || []) {
        this.block[this.filled++] = sample;
        if (this.filled === this.block.length) {
          this.port.postMessage(this.block.slice());
          this.filled = 0;
        }
      }
      return true;
    }
  }
  registerProcessor("recorder", Recorder);
}

// The microphone, block by block, until `close`.
export async function openMicrophone(onBlock) {
  if (!navigator.mediaDevices) {
    throw new Error("A browser gives the microphone to pages of this machine (localhost) or over https only.");
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
  } catch (error) {
    throw new Error(error.name === "NotFoundError" ? "No microphone was found."
      : "The browser does not let this page use the microphone. Allow it beside the address.");
  }
  const context = new AudioContext();
  const code = URL.createObjectURL(new Blob([`(${listen})()`], { type: "text/javascript" }));
  await context.audioWorklet.addModule(code);
  URL.revokeObjectURL(code);
  const source = context.createMediaStreamSource(stream);
  const node = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
  node.port.onmessage = ({ data }) => onBlock(data);
  source.connect(node);
  const [track] = stream.getAudioTracks();
  return {
    rate: context.sampleRate,
    onended(call) { track.addEventListener("ended", call); },
    async close() {
      source.disconnect();
      track.stop();
      if (context.state !== "closed") await context.close();
    },
  };
}

// A file instead of a microphone, as fast as it is spoken.
export async function openPlayed(file, onBlock) {
  const context = new AudioContext();
  const decoded = await context.decodeAudioData(await file.arrayBuffer());
  await context.close();
  const samples = decoded.getChannelData(0), size = Math.round(decoded.sampleRate / 10), began = performance.now();
  let at = 0, call = null;
  const timer = setInterval(() => {
    while (at < samples.length && at / decoded.sampleRate < (performance.now() - began) / 1000) {
      onBlock(samples.slice(at, at + size));
      at += size;
    }
    if (at >= samples.length) { clearInterval(timer); call?.(); }
  }, 100);
  return { rate: decoded.sampleRate, onended(ended) { call = ended; }, async close() { clearInterval(timer); } };
}

export const peakOf = (block) => block.reduce((most, x) => Math.max(most, Math.abs(x)), 0);

// Samples of 16 bits, as they are sent and kept.
export function integers(block) {
  return Int16Array.from(block, (sample) => Math.max(-1, Math.min(1, sample)) * 32767);
}

export async function startRecording(onLevel) {
  const blocks = [];
  let length = 0;
  const microphone = await openMicrophone((block) => {
    blocks.push(block);
    length += block.length;
    onLevel(length / microphone.rate, peakOf(block));
  });
  const { rate } = microphone;
  return async () => {
    await microphone.close();
    const stamp = new Date().toTimeString().slice(0, 8).replaceAll(":", ".");
    return new File([wav(blocks, length, rate)], `microphone ${stamp}.wav`, { type: "audio/wav" });
  };
}

function wav(blocks, length, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * length));
  const text = (at, letters) => [...letters].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + 2 * length, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, 2 * length, true);
  let at = 44;
  for (const block of blocks) {
    for (const sample of block) {
      view.setInt16(at, Math.max(-1, Math.min(1, sample)) * 32767, true);
      at += 2;
    }
  }
  return view.buffer;
}
